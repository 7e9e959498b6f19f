"""One public function per command of ``mess``; here, and only here, packages are wired."""

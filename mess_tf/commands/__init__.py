"""One public function per command of ``mess``; only here packages are wired."""

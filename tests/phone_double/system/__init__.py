"""The phone's system: files, processes, shell, commands, and adb's two services."""

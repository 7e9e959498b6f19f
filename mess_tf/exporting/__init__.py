"""From a chosen configuration to the files a user ships."""

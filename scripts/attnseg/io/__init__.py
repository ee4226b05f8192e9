"""Access to the machine: files, shards, devices, downloads, costs."""

"""Files, shards, devices, downloads, costs: what touches the machine."""

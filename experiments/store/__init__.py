"""Records, run folders, leases, provenance: what is on the disk."""

"""What things cost on this machine: time, memory and FLOPs, of mixers and of whole models."""

"""What stages share: devices, processes, stopping, keys of random numbers."""

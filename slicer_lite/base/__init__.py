"""What everything stands on: devices, several processes, random numbers, files that a crash cannot halve."""

"""What everything stands on: planes, coordinates, randomness, errors, files, processes, progress and terminal."""

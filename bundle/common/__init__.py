"""What every room stands on: errors, files, processes, the machine, pages; it imports no other room."""

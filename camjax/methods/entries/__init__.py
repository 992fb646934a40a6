"""What the registry knows of each method: one entry a method, in three files by how they ask the network."""

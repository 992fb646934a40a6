"""Pictures: reading, geometry, preprocessing, the names of classes, figures. Nothing here knows a network."""

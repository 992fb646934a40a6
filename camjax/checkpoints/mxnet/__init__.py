"""MXNet checkpoints of a ResNet v2, read without MXNet."""

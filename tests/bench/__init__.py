"""What Annals does in a second, each figure beside what it is held against in the same run."""

"""What a user of each peer would write: an app with tasks that do nothing."""

"""A project as a user of ours would have it: settings and an app with workflows."""

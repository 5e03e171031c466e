// The script of the release before.

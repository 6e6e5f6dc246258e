"""One experiment: its configuration, its data, its folds trained and measured."""

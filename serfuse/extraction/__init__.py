"""From a corpus and an encoder to rows in the store."""

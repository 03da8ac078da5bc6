"""The commands of `mmrec`. Each reads its options, then imports what it needs and calls it."""

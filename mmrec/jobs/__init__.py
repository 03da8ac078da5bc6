"""Jobs on a store, each a function with one frozen configuration: index, train, fine-tune, evaluate, and upkeep."""

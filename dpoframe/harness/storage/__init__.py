"""What an evaluation keeps: the store, the files of the contract, and the digests that name what lies in them."""

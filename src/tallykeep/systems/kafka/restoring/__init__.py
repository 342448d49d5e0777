"""What a restore does with batches: chosen by the index, read in pieces, copied or made anew, sent and put in order."""

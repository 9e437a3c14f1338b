"""The same arithmetic as in Flax, faster: convolutions, normalisation, pooling, recurrent cells."""

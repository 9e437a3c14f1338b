"""The network: ResNet encoder, patch sequence, recurrent cell, age and gender heads."""

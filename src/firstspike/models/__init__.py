"""Networks: from a layout (ETTFS, window neurons, one step), the GANs, and deep networks as spike times."""

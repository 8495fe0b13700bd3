"""Images and classes: data, small networks, their training, costs and architecture spaces."""

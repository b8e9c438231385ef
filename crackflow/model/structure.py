"""The graph of a Keras network: its pooled layer, and the inputs of a layer."""

from crackflow.core.backend import keras

layers = keras.layers


POOLS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)


def pooled_layer(model: keras.Model) -> str:
    """Returns the name of the layer that `model` pools globally; empty where there is none, or more than one."""
    sources = {name for layer in model.layers if isinstance(layer, POOLS) for name in input_layers(layer)}
    return sources.pop() if len(sources) == 1 else ""


def input_layers(layer: keras.layers.Layer) -> list[str]:
    return [node.layer.name for node in layer.inbound_nodes[0].parent_nodes]

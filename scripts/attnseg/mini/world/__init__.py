"""The mini world: small composed scenes with exact masks, labels and captions.

``vocabulary`` lists the classes and their names, ``sprites`` loads drawings, ``draw`` draws mugs and
backgrounds, ``scenes`` composes them, and ``captions`` describes a scene. Everything is a pure
function of a random generator: the same seed gives the same bytes.
"""

"""The mini world: small composed scenes with exact masks, labels and captions.

``vocabulary`` says what exists and how it is called, ``sprites`` loads the drawings, ``draw``
makes what no font has, ``scenes`` composes them, and ``captions`` puts a scene into words.
Everything is a pure function of a random generator: the same seed gives the same bytes.
"""

"""Visual grounding: the one box in an image that an expression describes.

Sources: Deng et al., "TransVG: End-to-End Visual Grounding with Transformers", ICCV 2021, and its official code.

``output`` is what every grounding network says. ``transvg`` is the network, made of ``visual``, a BERT
(``models.text``) and ``fusion``; ``encoder`` has the layers of both. ``quantised`` is a second head that classifies
coordinates, ``criterion`` what training minimises. ``published`` knows official files, ``positions`` brings their
tables to other sizes.
"""

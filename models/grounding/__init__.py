"""Visual grounding: the one box in an image that an expression describes.

Sources: Deng et al., "TransVG: End-to-End Visual Grounding with Transformers", ICCV 2021, and its official code; Yang
et al., "Improving Visual Grounding with Visual-Linguistic Verification and Iterative Reasoning" (VLTVG), CVPR 2022, and
its official code.

``output`` is what every grounding network says. ``transvg`` is one, made of ``visual``, a BERT (``models.text``) and
``fusion``; ``vltvg`` has ``verification`` and ``reasoning`` in place of fusion. ``encoder`` and ``cross_attention`` are
layers of them. ``quantised`` is a second head that classifies coordinates, ``criterion`` what training minimises.
``published`` loads official files by the ``names`` that they have, ``positions`` brings their tables to other sizes.
"""

"""Networks for bags: many instances, one label for all of them (multiple-instance learning).

Sources: Zhang et al., "Attention-Challenging Multiple Instance Learning for Whole Slide Image Classification" (ACMIL),
ECCV 2024, and its official code; Ilse et al. 2018 (ABMIL); Lu et al. 2021 (CLAM); Shao et al. 2021 (TransMIL); Zhang et
al. 2024 (AEM: the network of ABMIL with a loss of its own).

``bags`` holds the interface that all networks share, ``networks`` their names. ``acmil``, ``acmil_mha``, ``abmil``,
``clam``, ``transmil`` and ``mean_max`` are the networks. ``pooling`` averages bags of any length by attention,
``stkim`` hides the instances that attract most of it, ``losses`` are what training minimises, ``published`` knows
official files.
``attention_maps`` is the attention of bags as a result, ``pictures`` shows instances as pixels.
"""

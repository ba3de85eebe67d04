"""Pre-training by position: DropPos and, as a configuration of it, MP3.

Sources: Wang et al., "DropPos: Pre-Training Vision Transformers by Reconstructing Dropped Positions", NeurIPS 2023, and
its official code; Zhai et al., "Position Prediction as an Effective Pretraining Strategy" (MP3), ICML 2022.

``masks`` draws which patches and positions are hidden, ``smoothing`` says what is to be predicted, ``network`` predicts
it and takes the loss, ``scores`` measures it, ``reconstruction`` shows it, ``published`` reads official files.
"""

"""Pure pieces of learning from unlabelled images: tensors and numbers in, tensors, numbers and sentences out.

Formulas and defaults are those of Microsoft's Semi-supervised-learning library (USB), to which ``tests/semi`` compares
them; where that code does not do what it says, the docstring tells what is done instead.
"""

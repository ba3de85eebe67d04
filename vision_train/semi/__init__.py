"""Pure pieces of learning from unlabelled images: tensors and numbers in, tensors, numbers and sentences out."""

"""The one training loop and what it needs.

trainer.py  devices, precision, resume, a time limit
clock.py    steps, seconds and the learning rate of a stage
losses.py   the losses that the papers name
masking.py  seeded random masks
"""

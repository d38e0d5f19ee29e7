"""Simulated mailbox providers and their DNS, on loopback only."""

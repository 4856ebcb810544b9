"""Measures elastic instances beside plain vLLM on this machine's cores.

workload ─> run ─> link ─> elastic_subject, plain_subject ─> asking
             results ─> tables ─> report, picture
"""

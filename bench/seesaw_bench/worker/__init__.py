"""Measures Seesaw's costs and gains on this machine against physical limits and plain vLLM.

One run starts every subject (Seesaw in two ways, plain vLLM in two ways) in a separate process tree
and lets them take turns, round by round, so that a drift of the machine affects all of them.

    workload ─> run ─> link ─> seesaw_subject, plain_subject ─> decoding
                 └──> memory                 results ─> report, picture
"""

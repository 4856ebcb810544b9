"""What Seesaw costs and gains, measured on this machine against physical limits and plain vLLM.

One run starts every subject (two ways to run Seesaw, two of plain vLLM) in a process tree of its
own and lets them take turns, round by round, so that drift of the machine hits all alike.

    workload ─> run ─> link ─> seesaw_subject, plain_subject ─> decoding
                 └──> memory                 results ─> report, picture
"""

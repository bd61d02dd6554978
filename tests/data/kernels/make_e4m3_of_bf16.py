"""Writes e4m3_of_bf16.txt: what torch's float8_e4m3fn makes of every BF16 number.

python make_e4m3_of_bf16.py [device]     (torch 2.11; the default device is the CPU)

A line "PATTERN CODE" (hexadecimal) says that the BF16 bit patterns from PATTERN on, up to that of
the next line, become CODE. torch does not saturate: 464 is the largest number that becomes 448,
everything above it, infinity and NaN become 0x7f or 0xff by their sign.
"""
import sys
from pathlib import Path

import torch

device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
numbers = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).to(device)
codes = numbers.to(torch.float8_e4m3fn).view(torch.uint8).tolist()
runs = [i for i in range(65536) if i == 0 or codes[i] != codes[i - 1]]
text = "".join(f"{i:04x} {codes[i]:02x}\n" for i in runs)
Path(__file__).with_name("e4m3_of_bf16.txt").write_text(text)
print(len(runs), "runs")

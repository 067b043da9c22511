#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""wiretap.py CARD FILE: writes every packet that passes the card to the file, until it is killed.

Says "listening" once it does. Needs root. What comes faster than it writes is lost.
"""
import socket
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 << 20

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire, \
     open(sys.argv[2], "wb", buffering=0) as file:
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    wire.bind((sys.argv[1], 0))
    print("listening", flush=True)
    while True:
        file.write(wire.recv(1 << 17))

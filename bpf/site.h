/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where this copy of a program stands. One copy is loaded for each hop. */
#pragma once

#include "hop.h"

/* The hop this copy of the program stands at; set by bpf.Copies. */
const volatile __u16 hop_id;
/* Whether the device's packets start with an Ethernet header; set by bpf.Copies. */
const volatile bool ethernet = true;

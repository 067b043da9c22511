// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A codec as people write it: its name, then what differs from its usual numbers.
//   none   1bit   2bit:threshold=0.5   int8:block=256   fp8_e4m3:block=128   topk:fraction=0.01

#include <string>
#include <string_view>

#include "kernels/codec/codec.h"

namespace penstock {

// kInvalidArgument naming what is unknown, not a number, out of range or not a field of
// this codec.
Result<CodecSpec> parse_codec_spec(std::string_view text);

// "none, fp8_e4m3, …", for messages.
std::string codec_names();

// What parse_codec_spec() reads as this spec: "int8:block=256".
std::string codec_text(const CodecSpec& spec);

}  // namespace penstock

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/c/penstock.h"
#include "bindings/cpp/requests.h"

// What the opaque handles of the C ABI hold.
struct penstock_request {
  penstock::Request request;
};
struct penstock_answer {
  penstock::Answer answer;
};

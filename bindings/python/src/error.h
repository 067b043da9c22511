// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Statuses of the C ABI become the exceptions of penstock/errors.py.

#include <string>

namespace penstock::python {

// Raises for any status other than PENSTOCK_OK, with this thread's last sentence and peer. Needs
// the GIL, and the thread on which the call failed.
void check(int status);

// Raises with a sentence of the binding's own.
[[noreturn]] void raise(int status, const std::string& sentence);

}  // namespace penstock::python

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The parts of the module _penstock, one file each, in the order in which module.cc calls them.

#include <pybind11/pybind11.h>

namespace penstock::python {

void bind_worker(pybind11::module_& module);
void bind_roles(pybind11::module_& module);     // Server, Scheduler
void bind_requests(pybind11::module_& module);  // Answer, Request
void bind_mailbox(pybind11::module_& module);   // Mailbox, Receive: for penstock.torch.c10d

}  // namespace penstock::python

// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// With FRAMEWORK, a program that brings a dmlc/logging.h of its own; without, one that does not.

#include <ps/ps.h>

#include <dmlc/logging.h>

#ifdef FRAMEWORK
static_assert(FRAMEWORKS_OWN == 1, "the framework's copy is the one");
#else
static_assert(sizeof(dmlc::log::Line) > 0, "the fallback");
#endif

int main() {
  ps::KVWorker<char> worker(0, 0);
  CHECK(worker.get_customer() != nullptr);
  PS_VLOG(1) << "a line";
  LL << "another";
}

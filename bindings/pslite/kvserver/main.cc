// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// penstock-kvserver: a server, or the scheduler, of a job whose workers speak MXNet's KVStore
// dialect. Takes no options; DMLC_ROLE and the other variables of ps-lite say where it belongs.

#include <cstdio>
#include <string_view>

#include "bindings/pslite/kvserver/server.h"

namespace {

constexpr int kUsage = 64;
constexpr const char* kHelp =
    "usage: penstock-kvserver\n"
    "\n"
    "A server or the scheduler of a job whose workers speak MXNet's KVStore dialect.\n"
    "Reads DMLC_ROLE (server or scheduler), DMLC_NUM_WORKER, DMLC_NUM_SERVER,\n"
    "DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT. Optimizers come as text in command 0:\n"
    "  sgd:learning_rate=0.1,momentum=0.9,wd=1e-4,rescale_grad=0.0078125\n";

}  // namespace

int main(int argc, char* argv[]) {
  if (argc > 1) {
    const bool asked = std::string_view(argv[1]) == "--help";
    std::fputs(kHelp, asked ? stdout : stderr);
    return asked ? 0 : kUsage;
  }
  const penstock::Status done = penstock::kvserver::serve();
  if (done.ok()) return 0;
  std::fprintf(stderr, "penstock-kvserver: %s\n", done.to_string().c_str());
  return done.code() == penstock::Code::kInvalidArgument ? kUsage : 1;
}

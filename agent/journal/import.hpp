// What waited in the spool joins the chain.
#pragma once

#include "agent/journal/journal_impl.hpp"

namespace updagent::journal {

// One transaction for each file, in the order of their names. A file that can't be imported now
// stays and is a warning; only a damaged or locked database is an error.
base::Status import_spool(Journal::Impl& impl);

}  // namespace updagent::journal

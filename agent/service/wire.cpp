#include "agent/service/wire.hpp"

namespace updagent::service {

using base::Code;
using base::Error;
using base::Json;

Json error_to_json(const Error& error) {
  return {{"code", error.code_name()},
          {"message", error.message()},
          {"expected", error.expected()},
          {"got", error.got()},
          {"hint", error.hint()}};
}

Error error_from_json(const Json& json) {
  const auto text = [&json](const char* name) { return json.value(name, std::string()); };
  return Error(base::code_from_name(text("code")).value_or(Code::internal), text("message"))
      .expected(text("expected"))
      .got(text("got"))
      .hint(text("hint"));
}

}  // namespace updagent::service

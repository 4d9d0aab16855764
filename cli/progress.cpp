#include "cli/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "agent/base/text.hpp"

namespace updagent::cli {
namespace {

constexpr std::int64_t kRedrawUs = 100'000;  // ten times a second is smooth enough
constexpr std::size_t kBarWidth = 24;
constexpr std::size_t kLeastBarWidth = 4;  // less of a bar shows nothing
constexpr std::size_t kNameWidth = 12;

// Of a line that is rewritten: one that fills the terminal would begin the next one.
std::size_t room() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col - 1U;
  return 79;
}

std::string padded(std::string_view text, std::size_t width) {
  std::string out(text);
  if (out.size() < width) out.append(width - out.size(), ' ');
  return out;
}

std::string padded_left(std::string_view text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + std::string(text)
                             : std::string(text);
}

}  // namespace

void ProgressObserver::clear_line() {
  if (bar_shown_) static_cast<void>(session_.err().decoration("\r\x1b[K"));
  bar_shown_ = false;
}

void ProgressObserver::line(const std::string& text) {
  if (quiet()) return;
  clear_line();
  session_.err().line(text + "\n");
}

void ProgressObserver::started(std::string_view trace_id, std::string_view app,
                               std::string_view from, std::string_view to) {
  line(std::string(app) + " " + (from.empty() ? "" : std::string(from) + " -> ") + std::string(to) +
       "   trace " + std::string(trace_id));
}

void ProgressObserver::stage_started(std::string_view stage) {
  stage_ = stage;
  drawn_us_ = 0;
  rate_from_us_ = 0;
  waiting_for_.clear();
}

void ProgressObserver::stage_finished(std::string_view stage, std::string_view status,
                                      std::int64_t duration_us, std::string_view summary) {
  std::string mark = status == "success"   ? "ok"
                     : status == "failure" ? "FAIL"
                                           : std::string(status);
  mark = padded(mark, 5);
  if (session_.color_err())
    mark = (status == "success" ? "\x1b[32m" : "\x1b[1;31m") + mark + "\x1b[0m";
  line("  " + padded(stage, kNameWidth) + mark + padded_left(base::human_duration(duration_us), 9) +
       (summary.empty() ? "" : "   " + base::printable(summary)));
}

void ProgressObserver::bar(std::string_view what, double share, const std::string& tail) {
  if (quiet() || !session_.terminal_err()) return;
  const std::int64_t now = base::monotonic_now_us();
  if (now - drawn_us_ < kRedrawUs) return;
  drawn_us_ = now;
  std::string text = "  " + padded(what, kNameWidth);
  // what is told goes before what is drawn
  const std::size_t used = text.size() + tail.size() + std::string_view("[] ").size();
  const std::size_t width = std::min(kBarWidth, room() - std::min(room(), used));
  if (share >= 0 && width >= kLeastBarWidth) {
    const auto filled =
        static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width));
    text += "[" + std::string(filled, '#') + std::string(width - filled, '.') + "] ";
  }
  text += tail;
  text.resize(std::min(text.size(), room()));
  bar_shown_ = session_.err().decoration("\r\x1b[K" + text) || bar_shown_;
}

void ProgressObserver::progress(const deploy::BytesProgress& progress) {
  const std::string note = base::printable(progress.note);
  // once for an outage: attempts that bring no byte are part of it
  if (!note.empty() && !session_.terminal_err() &&
      (progress.note != waiting_for_ || progress.done != waiting_at_bytes_)) {
    line("  " + padded(progress.what, kNameWidth) + "waiting: " + note);
    waiting_for_ = progress.note;
    waiting_at_bytes_ = progress.done;
  }
  const std::int64_t now = base::monotonic_now_us();
  if (rate_from_us_ == 0) {
    rate_from_us_ = now;
    rate_from_bytes_ = progress.done;
  }
  const double seconds = static_cast<double>(now - rate_from_us_) / 1e6;
  const double rate =
      seconds > 0.2
          ? static_cast<double>(progress.done - std::min(progress.done, rate_from_bytes_)) / seconds
          : 0;
  std::string tail = base::human_bytes(progress.done);
  double share = -1;
  if (progress.total && *progress.total > 0) {
    share = static_cast<double>(progress.done) / static_cast<double>(*progress.total);
    tail += " of " + base::human_bytes(*progress.total);
  }
  if (!progress.note.empty()) {
    tail += "  " + note + ", again in " + base::human_duration(progress.retry_in.count() * 1000);
  } else if (rate > 0) {
    tail += "  " + base::human_bytes(static_cast<std::uint64_t>(rate)) + "/s";
    if (progress.total && *progress.total > progress.done)
      tail += "  " +
              base::human_duration(static_cast<std::int64_t>(
                  static_cast<double>(*progress.total - progress.done) / rate * 1e6)) +
              " left";
  }
  bar(progress.what, share, tail);
}

void ProgressObserver::watching(base::Milliseconds left, base::Milliseconds whole) {
  if (whole.count() <= 0) return;
  const double share = 1 - static_cast<double>(left.count()) / static_cast<double>(whole.count());
  bar("watching", share, base::human_duration(left.count() * 1000) + " left");
}

namespace {

// "1 [10] 50 100": where the steps are.
std::string steps_text(const deploy::RolloutProgress& progress) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < progress.percents.size(); ++i) {
    const std::string percent = std::to_string(progress.percents[i]);
    const bool now = i == progress.step && progress.begun && !progress.watching;
    words.push_back(now ? "[" + percent + "]" : percent);
  }
  return base::join(words, " ") + " %";
}

std::string percent_text(double percent) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", percent);
  return text.data();
}

std::string measured_text(const deploy::RolloutProgress& progress, bool ended) {
  if (!progress.begun) return "nobody comes yet";
  if (progress.measured_percent < 0)
    return ended ? "no new connection: this proves nothing" : "no new connection yet";
  return percent_text(progress.measured_percent) + " of new connections, " +
         std::to_string(progress.connections);
}

int percent_of(const deploy::RolloutProgress& progress) {
  if (!progress.begun) return 0;
  return progress.percents.empty() ? 100 : progress.percents[progress.step];
}

Json rollout_json(const deploy::RolloutProgress& progress, bool ended) {
  return {{"progress", progress.watching ? "watch" : "step"},
          {"steps", progress.percents},
          {"percent", percent_of(progress)},
          {"measured_percent",
           progress.measured_percent < 0 ? Json(nullptr) : Json(progress.measured_percent)},
          {"connections", progress.connections},
          {"left_ms", progress.left.count()},
          {"paused", progress.paused},
          {"waiting_for", progress.waiting_for},
          {"ended", ended}};
}

}  // namespace

void ProgressObserver::rollout(const deploy::RolloutProgress& progress, bool ended) {
  if (session_.json() && !session_.options().quiet) {
    session_.err().line(
        rollout_json(progress, ended).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    return;
  }
  const std::string waiting = base::printable(progress.waiting_for);
  const std::string where = progress.watching ? "watching" : "step " + steps_text(progress);
  if (!session_.terminal_err()) {
    // a pipe is told each step once when it ends, and what it waits for
    const std::string text = ended ? where + "  " + measured_text(progress, ended) : waiting;
    const bool one_step = progress.percents.size() < 2 && waiting.empty();
    if (!text.empty() && text != told_ && !one_step && (waiting.empty() == ended)) {
      if (!progress.watching || !ended) line("  " + padded(stage_, kNameWidth) + text);
      told_ = text;
    }
    return;
  }
  if (ended && !progress.watching && progress.percents.size() > 1) {
    line("  " + padded("", kNameWidth) + where + "  " + measured_text(progress, ended));
    return;
  }
  const double whole = static_cast<double>(progress.whole.count());
  const double share = whole > 0 ? 1 - static_cast<double>(progress.left.count()) / whole : 1;
  const std::string steps = progress.watching ? "" : steps_text(progress) + "  ";
  const std::string goes_on = waiting.empty()
                                  ? base::human_duration(progress.left.count() * 1000) + " left"
                                  : "waiting: " + waiting;
  std::string tail = steps + measured_text(progress, ended) + "  " + goes_on;
  // on a narrow terminal the end is what people wait for
  if (kNameWidth + 2 + tail.size() > room() && progress.begun && progress.measured_percent >= 0)
    tail = steps + percent_text(progress.measured_percent) + "  " + goes_on;
  bar(progress.watching ? "watching" : "shift", share, tail);
}

void ProgressObserver::note(std::string_view line) {
  clear_line();
  session_.note(line);
}

void ProgressObserver::warning(std::string_view line) {
  clear_line();
  session_.warning(line);
}

}  // namespace updagent::cli

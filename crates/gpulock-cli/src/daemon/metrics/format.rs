//! Which of the two forms of text whoever asks understands.

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The text format 0.0.4, which everything reads that knows Prometheus.
    Classic,
    /// OpenMetrics 1.0, which says units and ends with a mark.
    OpenMetrics,
}

impl Format {
    /// By the header `Accept`: OpenMetrics where it is asked for and not liked less than plain
    /// text.
    pub(crate) fn negotiated(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let open = liking(accept, "application/openmetrics-text");
        if open > 0.0 && open >= liking(accept, "text/plain") {
            return Self::OpenMetrics;
        }
        Self::Classic
    }

    /// What stands in the header `Content-Type`.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The largest `q` among the mentions of a media type: 1 where none is given, 0 where the type
/// is not mentioned or the version is one that we do not write.
fn liking(accept: &str, media_type: &str) -> f64 {
    let mentions = accept.split(',').filter_map(|mention| {
        let mut parts = mention.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(media_type);
        let mut quality = 1.0;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match (name.trim(), value.trim().trim_matches('"')) {
                ("q", value) => quality = value.parse().unwrap_or(0.0),
                ("version", "0.0.1" | "0.0.4" | "1.0.0") => {}
                ("version", _) => return None,
                _ => {}
            }
        }
        is_it.then_some(quality)
    });
    mentions.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let written = Format::OpenMetrics.content_type();
        assert_eq!(Format::negotiated(Some(written)), Format::OpenMetrics);
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
             */*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus_2,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=\"1.0.0\"; q=0.5, text/plain; q=0.5",
        ] {
            assert_eq!(Format::negotiated(Some(accept)), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_the_classic_text() {
        assert_eq!(Format::negotiated(None), Format::Classic);
        let written = Format::Classic.content_type();
        assert_eq!(Format::negotiated(Some(written)), Format::Classic);
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0.1,text/plain;q=0.9",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=much",
            "application/openmetrics-text;version=2.0.0",
        ] {
            assert_eq!(Format::negotiated(Some(accept)), Format::Classic, "{accept}");
        }
    }
}

//! How the driver is set up.

use std::time::Duration;

use gcloud_sdk::{
    GoogleAuthHeaders, GoogleAuthMiddleware,
    google_cloud_auth::credentials::{Credentials, anonymous},
    tonic::{
        codegen::http::{HeaderMap, HeaderValue, header::AUTHORIZATION, uri::Authority},
        transport::{Channel, ClientTlsConfig},
    },
};

use crate::error::Failure;

const SERVICE: &str = "https://firestore.googleapis.com";

/// The scope of the service's credentials.
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";

/// How often a silent connection is probed, and how long the probe's answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the driver connects, and its time limits.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) database: String,
    pub(crate) locks: String,
    pub(crate) fences: String,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
}

/// The server to connect to.
#[derive(Clone)]
pub(crate) enum Endpoint {
    /// The service, with these credentials or those of the environment.
    Service(Option<Credentials>),
    /// A server without TLS that trusts every client that claims to be the owner.
    Emulator(String),
}

impl Settings {
    /// Checks what only the driver can judge.
    pub(crate) fn validated(&self) -> Result<(), Failure> {
        match &self.endpoint {
            Endpoint::Emulator(address) if address.parse::<Authority>().is_err() => {
                Err(Failure::Config(format!(
                    "the address of the emulator is {address:?}; it must be host:port"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Creates a client. It connects with its first call, and again whenever necessary.
    ///
    /// The channel comes first: it installs its cryptography provider as that of the process, which
    /// the credentials may need to sign with.
    pub(super) async fn client(&self) -> Result<GoogleAuthMiddleware, Failure> {
        let channel = self.channel()?;
        let headers = match &self.endpoint {
            Endpoint::Service(None) => {
                let found = GoogleAuthHeaders::from_adc_with_scopes(vec![SCOPE.to_owned()]).await;
                found.map_err(|error| Failure::unauthenticated(&error))?
            }
            Endpoint::Service(Some(credentials)) => credentials.clone().into(),
            Endpoint::Emulator(_) => anonymous::Builder::new().build().into(),
        };
        let client = GoogleAuthMiddleware::new(channel, headers, Some(self.database.clone()));
        let mut client = client.map_err(|error| Failure::Config(error.to_string()))?;
        if let Endpoint::Emulator(_) = self.endpoint {
            let owner = HeaderValue::from_static("Bearer owner");
            client.set_additional_headers(HeaderMap::from_iter([(AUTHORIZATION, owner)]));
        }
        Ok(client)
    }

    fn channel(&self) -> Result<Channel, Failure> {
        let invalid_address =
            || Failure::Config("the address of the server is not valid".to_owned());
        let url = match &self.endpoint {
            Endpoint::Service(_) => SERVICE.to_owned(),
            Endpoint::Emulator(address) => format!("http://{address}"),
        };
        let mut endpoint = Channel::from_shared(url)
            .map_err(|_| invalid_address())?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .tcp_keepalive(Some(KEEP_ALIVE));
        if let Endpoint::Service(_) = self.endpoint {
            let tls = ClientTlsConfig::new().with_webpki_roots();
            endpoint = endpoint.tls_config(tls).map_err(|_| invalid_address())?;
        }
        Ok(endpoint.connect_lazy())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gcloud_sdk::{
        google_cloud_auth::{
            credentials::{CacheableResource, Credentials, CredentialsProvider, anonymous},
            errors::CredentialsError,
        },
        tonic::codegen::http::{Extensions, HeaderMap},
    };
    use syncguard_core::ErrorKind;

    use super::{Endpoint, Settings};
    use crate::{
        client::{Client, Lane, Search, Write},
        clock::{Report, ServerClock},
    };

    fn settings(credentials: Credentials) -> Settings {
        Settings {
            endpoint: Endpoint::Service(Some(credentials)),
            database: "projects/p/databases/(default)".to_owned(),
            locks: "locks".to_owned(),
            fences: "fences".to_owned(),
            request_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        }
    }

    /// Panics if two cryptography providers are compiled in, or none.
    #[tokio::test]
    async fn a_client_with_tls_is_made_without_connecting() {
        assert!(settings(anonymous::Builder::new().build()).client().await.is_ok());
    }

    #[derive(Debug)]
    struct Failing {
        transient: bool,
    }

    impl CredentialsProvider for Failing {
        async fn headers(
            &self,
            _: Extensions,
        ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
            Err(CredentialsError::from_msg(self.transient, "no token"))
        }

        async fn universe_domain(&self) -> Option<String> {
            None
        }
    }

    #[tokio::test]
    async fn without_credentials_nothing_is_sent_and_the_error_says_why() {
        for (transient, kind) in
            [(false, ErrorKind::AuthFailed), (true, ErrorKind::ServiceUnavailable)]
        {
            let settings = settings(Credentials::from(Failing { transient }));
            let client = Client::new(settings, ServerClock::new(Report::Silence));
            let (call, search) =
                (client.call(Lane::Common), Search { condition: None, order: None, limit: 1 });
            let reading = client.search(call, search).await.map(drop).unwrap_err();
            let committing = client.commit(call, Vec::<Write>::new()).await.map(drop).unwrap_err();
            for failure in [reading, committing] {
                let error = failure.into_error();
                assert_eq!((error.kind(), error.may_have_applied()), (kind, false), "{error:?}");
                assert!(error.to_string().contains("credentials"), "{error}");
            }
        }
    }
}

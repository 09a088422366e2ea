//! What a registry loads its values with.

use crate::error::BoxError;
use futures_util::future::BoxFuture;
use std::future::Future;

/// What loads a value by its id: an async function or closure.
///
/// # Examples
/// ```
/// use railbus::{CachedRegistry, bus::Loader};
///
/// async fn load(id: String) -> std::io::Result<usize> {
///     Ok(id.len())
/// }
/// fn registry(loader: impl Loader<usize>) -> railbus::bus::Registering<usize> {
///     CachedRegistry::new(loader)
/// }
/// let _ = registry(load);
/// ```
pub trait Loader<V>: Send + Sync + 'static {
    /// Loads the value of `id`. May be called from many tasks at once, for different ids.
    fn load(&self, id: String) -> BoxFuture<'static, Result<V, BoxError>>;
}

impl<F, Fut, V, E> Loader<V> for F
where
    F: FnOnce(String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn load(&self, id: String) -> BoxFuture<'static, Result<V, BoxError>> {
        let loading = self.clone()(id);
        Box::pin(async move { loading.await.map_err(Into::into) })
    }
}
